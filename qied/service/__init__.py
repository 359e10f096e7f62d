"""Under a service manager: the daemon's notifications to it, reloading, and the units for systemd."""
