"""Recompute every metric of finished runs from their checkpoints.

    python evaluate.py run=outputs/main/<run id>                   compare with results.json, bit for bit
    python evaluate.py run=outputs/main/<run id> seeds=0,1,2       metrics over more sampling seeds, with their spread
    python evaluate.py run=outputs/main                            a whole study; also a pattern: run='outputs/*/poin*'

Same machine, versions, threads and batch size give the same bits; results.json records all four.
"""

import sys

from hldm.start import check_python

if __name__ == "__main__":
    check_python()
    from hldm import console
    from hldm.commands import evaluate

    sys.exit(console.run(lambda: evaluate.main(sys.argv[1:])))
