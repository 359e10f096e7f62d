"""Every error that a user of qied can meet, as one tree with stable codes.

::

    QiedError
    ├── UnreachableError                 the daemon cannot be talked to
    │   ├── DaemonUnreachable            daemon_unreachable      nothing answers at the endpoint
    │   ├── HandshakeRefused             handshake_refused       wrong server key, or this key is not enrolled
    │   ├── CredentialsMissing           credentials_missing     no key file found, or it cannot be read
    │   ├── VersionMismatch              version_mismatch        no protocol version in common
    │   ├── SocketUnavailable            socket_unavailable      this program cannot make a socket
    │   └── RequestTimeout               timeout                 no answer within the time that the caller gave
    ├── NotPermitted                     not_permitted           only the machine's owner may do this
    ├── ProtocolError                    protocol_error          frames that are not of the protocol, or out of order
    ├── InvalidRequest                   invalid_request         a field of a request is wrong
    │   ├── UnknownOption                unknown_option          not an option of an edit; names the nearest one
    │   ├── UnknownPreset                unknown_preset
    │   ├── UnknownLora                  unknown_lora
    │   ├── PrecisionUnavailable         precision_unavailable   the daemon does not run this precision
    │   ├── WorkflowRefused              workflow_refused        a workflow of ComfyUI has nodes that mean nothing here
    │   └── AboveCap                     above_cap               larger than this machine's plan allows
    ├── BlobError
    │   ├── UnknownBlob                  unknown_blob            a hash that was never uploaded, or has expired
    │   ├── BlobMismatch                 blob_mismatch           the bytes do not have the hash that was announced
    │   ├── BlobDamaged                  blob_damaged            the daemon's disk has changed a stored picture
    │   └── BlobTooLarge                 blob_too_large
    ├── PictureError
    │   ├── UnsupportedPicture           unsupported_picture     not a picture that is read
    │   ├── PictureTooLarge              picture_too_large       more pixels than the limit, or none at all
    │   ├── PictureTooCostly             picture_too_costly      decoding takes more time or memory than the limit
    │   └── PictureUnreadable            picture_unreadable      truncated or corrupt
    ├── MetadataMissing                  metadata_missing        a picture does not say how it was made
    ├── JobError
    │   ├── UnknownJob                   unknown_job             no such job of this user
    │   ├── JobConflict                  job_conflict            same job id, different request
    │   ├── JobCancelled                 job_cancelled
    │   ├── JobPoisoned                  job_poisoned            two workers died of it
    │   │   └── JobSetAside              job_set_aside           the machine went down twice while it ran
    │   ├── JobFailed                    job_failed              the engine could not finish it
    │   │   ├── OutOfMemory              out_of_memory           even in every smaller form
    │   │   └── JobUnreadable            job_unreadable          stored by another version, or damaged on disk
    │   └── DependencyFailed             dependency_failed       the turn that it edits did not succeed
    ├── SessionError
    │   ├── UnknownSession               unknown_session         no such session of this user
    │   ├── SessionConflict              session_conflict        same name, different picture
    │   ├── UnknownTurn                  unknown_turn
    │   ├── NothingToUndo                nothing_to_undo
    │   └── NothingToRedo                nothing_to_redo
    ├── CapacityError
    │   ├── QuotaExceeded                quota_exceeded          one user holds too much: details name the setting
    │   ├── QueueFull                    queue_full
    │   ├── DiskFull                     disk_full
    │   ├── DiskUnavailable              disk_unavailable        read-only, or no free file descriptors
    │   ├── Busy                         busy                    jobs are in the way of what was asked for
    │   └── ShuttingDown                 shutting_down
    ├── SetupError
    │   ├── SystemUnsupported            system_unsupported      the daemon does not run on this operating system
    │   ├── ConfigError                  config_error            file, key, value and the allowed ones
    │   ├── ModelNotFound                model_not_found
    │   ├── ModelUnsupported             model_unsupported
    │   ├── DownloadFailed               download_failed         a model could not be fetched, or not to its end
    │   ├── PlanRefused                  plan_refused            this machine cannot serve this model as asked
    │   └── UnsafeAuthentication         unsafe_authentication   an unknown key was let in: serving is refused
    └── InternalError                    internal_error          a bug in qied; the daemon's log has the details

Each error carries ``code`` (never changes), ``message`` (what was wrong and the limit), ``remedy`` (what to do) and
``details`` (numbers and names for programs).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

Detail = str | int | float | bool | None


class QiedError(Exception):
    """Base of all errors; never raised itself except for a code that this version does not know."""

    code = "error"
    passing: ClassVar[bool] = False
    """Whether errors of this kind end by themselves; see ``retry``."""

    def __init__(self, message: str, remedy: str = "", **details: Detail) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.details: dict[str, Detail] = details

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".rstrip()

    @property
    def retry(self) -> bool:
        """Whether the same call, unchanged, may succeed a little later; if not, repeating it is of no use."""
        return self.passing


class UnreachableError(QiedError):
    """The daemon cannot be talked to."""

    code = "unreachable"


class DaemonUnreachable(UnreachableError):
    """Nothing answers at the endpoint."""

    code = "daemon_unreachable"
    passing = True


class HandshakeRefused(UnreachableError):
    """The encrypted handshake failed: wrong server key, or this client's key is not enrolled."""

    code = "handshake_refused"


class CredentialsMissing(UnreachableError):
    """No key file was found, or it cannot be read."""

    code = "credentials_missing"


class VersionMismatch(UnreachableError):
    """Client and daemon have no protocol version in common."""

    code = "version_mismatch"


class SocketUnavailable(UnreachableError):
    """This program cannot make a socket: the system gives none, or libzmq lacks CURVE."""

    code = "socket_unavailable"


class RequestTimeout(UnreachableError):
    """No answer came within the time that the caller gave."""

    code = "timeout"
    passing = True


class NotPermitted(QiedError):
    """Only the owner of the daemon's machine may do this."""

    code = "not_permitted"


class ProtocolError(QiedError):
    """Frames that are not of the protocol, or messages out of order."""

    code = "protocol_error"


class InvalidRequest(QiedError):
    """A field of a request is wrong; ``details["field"]`` names it."""

    code = "invalid_request"


class UnknownOption(InvalidRequest):
    """There is no option of this name; ``details["nearest"]`` is the one that was probably meant."""

    code = "unknown_option"


class WorkflowRefused(InvalidRequest):
    """A workflow that cannot be run here; ``problems`` has each node that is the reason, the nearest to a save first.

    They are ``workflows.NodeProblem``. ``details`` has ``node`` and ``class_type`` of the first, and how many there are
    as ``problems``.
    """

    code = "workflow_refused"
    problems: tuple[Any, ...] = ()


class UnknownPreset(InvalidRequest):
    """The model profile has no preset of this name."""

    code = "unknown_preset"


class UnknownLora(InvalidRequest):
    """No LoRA of this name is in the configured folders."""

    code = "unknown_lora"


class PrecisionUnavailable(InvalidRequest):
    """The daemon does not run this precision."""

    code = "precision_unavailable"


class AboveCap(InvalidRequest):
    """The request is larger than this machine's plan allows; details hold the nearest size that fits."""

    code = "above_cap"


class BlobError(QiedError):
    """Bytes addressed by content."""

    code = "blob_error"


class UnknownBlob(BlobError):
    """A hash that was never uploaded by this user, or has expired."""

    code = "unknown_blob"


class BlobMismatch(BlobError):
    """The bytes do not have the hash or size that was announced."""

    code = "blob_mismatch"


class BlobDamaged(BlobError):
    """The daemon's disk has changed a stored picture, so that it was removed: it can be uploaded again."""

    code = "blob_damaged"


class BlobTooLarge(BlobError):
    """More bytes than one blob may have."""

    code = "blob_too_large"


class PictureError(QiedError):
    """An input picture that cannot be used."""

    code = "picture_error"


class UnsupportedPicture(PictureError):
    """The bytes are no picture, or one of a format that the daemon cannot read."""

    code = "unsupported_picture"


class PictureTooLarge(PictureError):
    """The picture has more pixels than the limit, or none at all."""

    code = "picture_too_large"


class PictureTooCostly(PictureError):
    """Decoding the picture takes more time, memory or scans than the limit."""

    code = "picture_too_costly"


class PictureUnreadable(PictureError):
    """The picture is truncated or corrupt."""

    code = "picture_unreadable"


class MetadataMissing(QiedError):
    """A picture does not say how it was made."""

    code = "metadata_missing"


class JobError(QiedError):
    """A job cannot be found, or did not succeed."""

    code = "job_error"


class UnknownJob(JobError):
    """This user has no such job (any more)."""

    code = "unknown_job"


class JobConflict(JobError):
    """The job id is taken by a different request."""

    code = "job_conflict"


class JobCancelled(JobError):
    """The job was cancelled."""

    code = "job_cancelled"


class JobPoisoned(JobError):
    """Two workers died while they ran this job, so it is not tried again."""

    code = "job_poisoned"


class JobSetAside(JobPoisoned):
    """The machine went down twice while this job ran, so it is not run again by itself."""

    code = "job_set_aside"


class JobFailed(JobError):
    """The engine could not finish the job."""

    code = "job_failed"


class OutOfMemory(JobFailed):
    """The job ran out of memory even in every smaller form."""

    code = "out_of_memory"


class JobUnreadable(JobFailed):
    """The daemon cannot read what it stored of the job: another version wrote it, or it is damaged."""

    code = "job_unreadable"


class DependencyFailed(JobError):
    """The turn whose result this job edits did not succeed."""

    code = "dependency_failed"


class SessionError(QiedError):
    """A multi-turn editing session cannot be used as asked."""

    code = "session_error"


class UnknownSession(SessionError):
    """This user has no such session."""

    code = "unknown_session"


class SessionConflict(SessionError):
    """The name is taken by a session on another picture."""

    code = "session_conflict"


class UnknownTurn(SessionError):
    """The session has no such turn."""

    code = "unknown_turn"


class NothingToUndo(SessionError):
    """The session is at its first picture."""

    code = "nothing_to_undo"


class NothingToRedo(SessionError):
    """The turn does not follow the session's latest picture, or has no picture."""

    code = "nothing_to_redo"


class CapacityError(QiedError):
    """The daemon cannot take more for now."""

    code = "capacity"
    passing = True


class QuotaExceeded(CapacityError):
    """One user holds too much at once; ``details["setting"]`` names the limit that was met.

    ``details["passes"]`` is false where time alone does not help: something has to be released or closed first.
    """

    code = "quota_exceeded"

    @property
    def retry(self) -> bool:
        """Whether the limit is of what is under way, so that the same call succeeds once some of that has ended."""
        return self.details.get("passes") is not False


class QueueFull(CapacityError):
    """The queue of the daemon is full."""

    code = "queue_full"


class DiskFull(CapacityError):
    """A disk is full, or the daemon's share of one."""

    code = "disk_full"
    passing = False


class DiskUnavailable(CapacityError):
    """The daemon cannot use its disk for now: it is read-only or away, or there are too many open files."""

    code = "disk_unavailable"


class Busy(CapacityError):
    """Jobs that run or wait are in the way of what was asked for."""

    code = "busy"
    passing = False


class ShuttingDown(CapacityError):
    """The daemon is stopping and accepts nothing new."""

    code = "shutting_down"


class SetupError(QiedError):
    """The daemon cannot start as configured, or something that it needs is not available."""

    code = "setup"


class SystemUnsupported(SetupError):
    """The daemon does not run on this operating system."""

    code = "system_unsupported"


class ConfigError(SetupError):
    """A configuration key or value is wrong; the message names the file, the key and the allowed values."""

    code = "config_error"


class ModelNotFound(SetupError):
    """No model is configured and none was found, or the one that was named does not exist."""

    code = "model_not_found"


class ModelUnsupported(SetupError):
    """The files are of a model or layout that this version does not load."""

    code = "model_unsupported"


class DownloadFailed(SetupError):
    """A model could not be fetched, or not to its end; what was fetched is kept."""

    code = "download_failed"


class PlanRefused(SetupError):
    """This machine cannot serve this model as asked; ``details["reason"]`` is the planner's own code."""

    code = "plan_refused"


class UnsafeAuthentication(SetupError):
    """The start-up proof failed: an unknown key was let in."""

    code = "unsafe_authentication"


class InternalError(QiedError):
    """A bug in qied; the daemon's log has the details."""

    code = "internal_error"


def _tree(root: type[QiedError]) -> Iterator[type[QiedError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


CODES: Mapping[str, type[QiedError]] = {cls.code: cls for cls in _tree(QiedError)}


def from_code(code: str, message: str, remedy: str = "", details: Mapping[str, Detail] | None = None) -> QiedError:
    """Make the typed error for a code received from the wire; an unknown code gives a plain ``QiedError``."""
    error = CODES.get(code, QiedError)(message, remedy)
    error.details.update(details or {})
    if type(error) is QiedError:
        error.details["code"] = code
    return error
