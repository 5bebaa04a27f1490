"""Rules: the evidence on a part to a decision. One file per kind; pure."""
