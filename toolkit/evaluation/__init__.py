"""Evaluation: prompt fidelity judged by an oracle, sweeps of guidance and samplers, bits per dimension."""
