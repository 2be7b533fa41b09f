"""Trainer source `openxr`: a headset on this machine's OpenXR runtime. pyopenxr is imported on opening it."""
