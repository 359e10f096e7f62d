"""The model on the device: the only package that imports torch."""

import os

# Read once, when torch is first imported. By default threads that wait for each other spin: on two cores that other
# processes use as well, an edit of the built-in model took 3 to 35 s instead of 1.2 to 1.5 s. On an idle machine
# spinning is faster (0.7 s), which matters to small models only; whoever wants it sets the variable.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
