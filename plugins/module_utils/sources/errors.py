# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
"""The one kind of error that a person is meant to read."""

from __future__ import annotations

import errno


class SourceError(Exception):
    """A part cannot be had; the text names the cause, the place and the remedy."""


class Unreachable(SourceError):
    """A publisher does not answer or does not have the file; building is still possible."""


def explain_full_disk(error: OSError, path: str, variable: str) -> str | None:
    """The sentence for a disk without room or a used-up quota; None when the error is another one.

    :param path: what was written to
    :param variable: what a person sets to write elsewhere
    """
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    return (
        f"The disk that holds {path} is full. Free some space there, or set"
        f" {variable} to a directory on a larger disk, and run again:"
        " what is complete is kept."
    )


def explain_os_error(error: OSError, path: str) -> SourceError:
    """Turn a failed write into a sentence with a remedy."""
    full = explain_full_disk(error, path, "sources_cache_dir")
    if full is not None:
        return SourceError(full)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return SourceError(
            f"No permission to write {error.filename or path}. Set sources_cache_dir to a"
            " directory that this user owns, or give this one to the user."
        )
    return SourceError(f"Cannot use {error.filename or path}: {error.strerror or error}.")
