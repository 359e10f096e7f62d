"""The asyncio client: the calls, the jobs and the sessions of one connection."""

from qied_client.aio.client import AsyncClient
from qied_client.aio.job import AsyncJob
from qied_client.aio.session import AsyncSession

__all__ = ["AsyncClient", "AsyncJob", "AsyncSession"]
