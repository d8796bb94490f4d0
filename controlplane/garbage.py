"""What the garbage collector looks at, in processes that live for long."""

import gc


def keep_what_was_loaded() -> None:
    """Have it pass over what lives as long as the process, and look less often at what requests and tasks leave.

    They hold few cycles. With the interpreter's own thresholds it took a sixth of what a sync costs, and up to 100 ms of a large question.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
