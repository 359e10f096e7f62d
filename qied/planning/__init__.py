"""Pure planning: from a snapshot, a model and wishes to a plan, and from a request to a priced edit."""
