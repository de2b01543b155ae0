import subprocess
import sys


def test_estimators_bring_neither_the_runtime_nor_torch():
    code = "import sys, training.advantages; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    loaded = set(done.stdout.split())
    assert "training.advantages.mars" in loaded
    assert not {"torch", "orchestra.execution", "orchestra.models"} & loaded
