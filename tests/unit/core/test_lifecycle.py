"""What a service does before it has a second thread."""

import subprocess
import sys

PROGRAM = """
import sys, threading
import msgspec
from l402core.lifecycle import know_types

fields = [(f"a{number}", int) for number in range(20)]
kinds = []
for number in range(300):
    inner = msgspec.defstruct(f"Inner{number}", fields, frozen=True)
    kinds.append(msgspec.defstruct(f"Outer{number}", [(f"f{n}", tuple[inner, ...]) for n in range(5)], frozen=True))
text = msgspec.json.encode({f"f{n}": [dict.fromkeys([name for name, _ in fields], 1)] for n in range(5)})
know_types()
sys.setswitchinterval(1e-6)
for kind in kinds:
    gate = threading.Barrier(3)
    threads = [threading.Thread(target=lambda: (gate.wait(), msgspec.json.decode(text, type=kind))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print("all of them")
"""


def test_threads_that_decode_a_type_at_once_do_not_end_the_process() -> None:
    """Three threads meet at each of 300 types that a process has just learned of, with the interpreter passed on at once."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "all of them\n", "")
