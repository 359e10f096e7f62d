"""What this machine has, as one snapshot: cards, driver, host memory, torch and the self-test's results."""
