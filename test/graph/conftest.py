from __future__ import annotations

import sys
from pathlib import Path

# `retargeting_world` and `recorder_station` are shared by the tests here.
sys.path.insert(0, str(Path(__file__).resolve().parent))
