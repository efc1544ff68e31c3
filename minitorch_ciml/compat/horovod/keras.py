"""Horovod's names under another of its modules' names."""

from minitorch_ciml.compat.horovod import *  # noqa: F403
from minitorch_ciml.compat.horovod import callbacks as callbacks
