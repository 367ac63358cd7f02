"""The short form of ``make faults``."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support import TESTS


@pytest.mark.timeout(300)
def test_a_few_rounds_cost_nothing() -> None:
    command = [sys.executable, "-m", "faults", "--rounds", "10", "--tries", "0", "--workers", "2", "--seed", "1"]
    ran = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    whole = next(line for line in ran.stdout.splitlines() if line.startswith("all "))
    rounds, injected, acknowledged, *must_be_0 = map(int, whole.split()[1:])
    assert rounds == 10
    assert injected > 3
    assert acknowledged > 10
    assert must_be_0 == [0, 0, 0, 0]
