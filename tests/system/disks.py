"""A disk of a few megabytes, for tests that fill it."""

import shutil
import subprocess

import pytest

SIZE_MB = 3


def small_disk(folder):
    """Words that run a command with such a disk at `folder`; skips where the kernel does not let us.

    The command alone sees it; others reach it through `/proc/ID/root`.
    """
    unshare = shutil.which("unshare")
    script = f'mount -t tmpfs -o size={SIZE_MB}m,mode=700 tmpfs "{folder}" && exec "$@"'
    words = [unshare or "unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    try:
        subprocess.run([*words, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this kernel lets nobody mount a file system of their own")
    return words
