""The command line.""
