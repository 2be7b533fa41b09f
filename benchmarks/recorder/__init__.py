"""The recorder measured under a load of real processes; see `docs/recorder.md`."""
