"""How `hldm worker` ends, as its exit status: what a launcher or a job script decides by."""

FINISHED = 0
"""The run is finished, now or already before."""

FAILED = 1
"""The run failed; status.json and its log say why."""

STOPPED = 75
"""It was asked to stop, and what it had done is saved: start it again. EX_TEMPFAIL of sysexits.h."""

BUSY = 76
"""Another process works on this run; nothing was done."""
