"""``python -m tinyvit_kd``, which is what torchrun starts."""

from tinyvit_kd.cli import main

if __name__ == "__main__":
    main()
