"""The thin client: edits, jobs and sessions over one connection, with pyzmq and msgpack but without torch.

``Client`` and ``AsyncClient`` edit pictures; ``errors`` draws the tree of what can go wrong.
"""

from qied_client import errors
from qied_client.aio import AsyncClient, AsyncJob, AsyncSession
from qied_client.batch.run import BatchOutcome
from qied_client.client import Client, Job, Session
from qied_client.credentials import Credential
from qied_client.errors import QiedError
from qied_client.history import SessionSummary, Turn
from qied_client.inputs import Picture, Pictures
from qied_client.job_status import JobStatus, JobSummary
from qied_client.options import EditOptions, Loras
from qied_client.protocol.messages import Quoted, StatusReport, Welcome
from qied_client.protocol.request import LoraChoice
from qied_client.results import OnProgress, Progress, Result
from qied_client.version import __version__

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "AsyncSession",
    "BatchOutcome",
    "Client",
    "Credential",
    "EditOptions",
    "Job",
    "JobStatus",
    "JobSummary",
    "LoraChoice",
    "Loras",
    "OnProgress",
    "Picture",
    "Pictures",
    "Progress",
    "QiedError",
    "Quoted",
    "Result",
    "Session",
    "SessionSummary",
    "StatusReport",
    "Turn",
    "Welcome",
    "__version__",
    "errors",
]
