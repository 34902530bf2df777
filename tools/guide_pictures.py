"""python tools/guide_pictures.py [PAGE ...]: makes the pictures of docs/guide anew, by the code of its pages.

The Python blocks of each page run one after the other in an empty folder; the PNG that they write goes to docs/guide.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "guide"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def main(names: list[str]) -> None:
    for page in sorted(GUIDE.glob("*.md")):
        code = "\n".join(BLOCK.findall(page.read_text()))
        if not code or (names and page.stem not in names):
            continue
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
            for picture in Path(folder).glob("*.png"):
                shutil.copy(picture, GUIDE / picture.name)
                print(picture.name)


if __name__ == "__main__":
    main(sys.argv[1:])
