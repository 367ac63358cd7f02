"""What a person touches: magics, the program, the panel."""
