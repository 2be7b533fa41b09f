"""`python -m episodes`."""

from __future__ import annotations

from episodes.cli import main

raise SystemExit(main())
