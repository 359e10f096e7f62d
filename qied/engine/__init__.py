"""The only package that imports torch: model classes, denoising and caches."""
