"""Computing in one thread, so that what is measured is what one core does."""

from contextlib import ExitStack


def use_one_thread(stack: ExitStack) -> None:
    """PyTorch from now on; NumPy until the stack is closed."""
    import torch

    torch.set_num_threads(1)
    try:  # comes with scikit-learn
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
    except ImportError:
        return
    stack.enter_context(threadpool_limits(1))
