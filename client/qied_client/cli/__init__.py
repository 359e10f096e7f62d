"""The client's command line; needs the extra ``qied-client[cli]``."""
