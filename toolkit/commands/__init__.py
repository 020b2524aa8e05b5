"""Commands: what each script does, and its flags. The `*_flags` modules import no torch."""
