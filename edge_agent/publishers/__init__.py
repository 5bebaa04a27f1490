"""Publishers: one connection to where messages go. One file per kind; the file name is the table in the configuration."""
