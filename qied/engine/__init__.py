"""The only package that imports torch: model classes, denoising and caches."""

import os

# Read once, when torch is first imported. By default threads that wait for each other spin: with one other busy
# process on two cores an edit then takes ten times as long, and nothing is gained on an idle machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
