"""`python -m unlearn`, for launchers that want a module: `accelerate launch -m unlearn run ...`."""

from unlearn.cli.main import main

if __name__ == "__main__":
    main()
