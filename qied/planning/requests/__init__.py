"""What a request leaves open, filled in and priced for the plan that is served."""
