"""Trainer source `openxr`: a headset on a PC's OpenXR runtime, used headless. Imports pyopenxr only when opened."""
