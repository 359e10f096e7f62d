"""The client's command line, for which the extra ``qied-client[cli]`` is needed."""
