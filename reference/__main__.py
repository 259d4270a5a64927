"""`python -m reference`: fetch the release and print where it lies."""

from reference.fetch import library_dir

if __name__ == "__main__":
    print(library_dir())
