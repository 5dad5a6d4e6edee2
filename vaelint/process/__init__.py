"""Front and worker: who starts which process, what they say to each other, and what is left whatever becomes of one."""
