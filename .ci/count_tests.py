"""Print how many tests the given JUnit files say ran; fail where a headset's tests were skipped or missing.

They need a browser, npm's iwer, a C compiler, OpenXR's headers and pyopenxr: a machine without one of these
must not pass by leaving them out.
"""

import sys
from pathlib import Path
from xml.etree import ElementTree

# By a word in the names of their modules.
REQUIRED = {"test_webxr": "browser", "test_openxr": "OpenXR", "test_headset_webxr": "browser's node"}


def main(files: list[str]) -> int:
    ran, ran_of, skipped = 0, dict.fromkeys(REQUIRED, 0), []
    for file in filter(Path.exists, map(Path, files)):
        for case in ElementTree.parse(file).getroot().iter("testcase"):
            # A module that is skipped as a whole has its name where a test has its own.
            name = f"{case.get('classname') or ''}.{case.get('name') or ''}".strip(".")
            words = [word for word in REQUIRED if word in name.partition("[")[0]]
            skip = case.find("skipped")
            if skip is None:
                ran += 1
                for word in words:
                    ran_of[word] += 1
            elif words:
                skipped.append(f"{name} ({skip.get('message', '')})")
    problems = [f"skipped, which is no success: {name}" for name in skipped]
    problems += [f"no test of the {REQUIRED[word]} ran ({word}*)" for word in REQUIRED if not ran_of[word]]
    for problem in problems:
        print(f"ci: error: {problem}", file=sys.stderr)
    print(ran)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
