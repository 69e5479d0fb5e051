"""Optional compiled kernels: plain C against the limited API, with the signatures of ``semid.kernels``."""
