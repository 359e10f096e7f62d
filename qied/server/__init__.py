"""The front: requests, jobs and sessions, put together by the daemon on one event loop."""
