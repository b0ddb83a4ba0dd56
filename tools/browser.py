"""Make sure that the browser tests have a Chromium; install Debian's where there is none."""

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


def find() -> str | None:
    """The browser: LEARNIT_CHROMIUM if set, else the first of the usual names on the PATH."""
    return os.environ.get("LEARNIT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def main() -> int:
    """Install Chromium with apt-get if need be. Returns 1, with a line of advice, if that fails."""
    if find():
        return 0
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if shutil.which("apt-get"):
        print("installing Chromium for the browser tests", flush=True)
        for words in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
            run = subprocess.run(
                [*root, "apt-get", "-qq", *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            if run.returncode:
                print(run.stderr.decode()[-500:])
        if find():
            return 0
    print("no Chromium: install it, or set LEARNIT_CHROMIUM to the path of one")
    return 1


if __name__ == "__main__":
    sys.exit(main())
