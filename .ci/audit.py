"""Looks the versions of requirements/constraints.txt up among known vulnerabilities (``make audit``).

Ends with 1 if there are any, with 0 if there are none, and with 0 and a line where the advisory
service cannot be reached: then nothing was checked.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CONSTRAINTS = Path(__file__).parent.parent / "requirements" / "constraints.txt"
COMMAND = (
    "-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner", "off", "--timeout", "15",
    "--format", "json", "--requirement", str(CONSTRAINTS),
)  # fmt: skip


def main() -> int:
    """Run pip-audit and say what it found."""
    try:
        done = subprocess.run(
            [sys.executable, *COMMAND], capture_output=True, text=True, timeout=300
        )
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, subprocess.TimeoutExpired) as error:
        reason = type(error).__name__
        if isinstance(error, ValueError):
            reason = (done.stderr.strip().splitlines() or ["no answer"])[-1][:200]
        print(f"audit: nothing was checked: no advisory service can be reached ({reason})")
        return 0
    checked = [one for one in found if "skip_reason" not in one]
    if not checked:
        reason = found[0]["skip_reason"] if found else "no packages"
        print(f"audit: nothing was checked: the advisory service knows none of them ({reason})")
        return 0
    vulnerable = [one for one in checked if one["vulns"]]
    for one in vulnerable:
        for problem in one["vulns"]:
            fixed = ", ".join(problem["fix_versions"]) or "no version yet"
            print(f"audit: {one['name']} {one['version']}: {problem['id']}, fixed in {fixed}")
    print(
        f"audit: {len(checked)} of {len(found)} packages looked up, {len(vulnerable)} of them with known "
        "vulnerabilities"
    )
    return 1 if vulnerable else 0


if __name__ == "__main__":
    sys.exit(main())
