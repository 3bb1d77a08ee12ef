"""训练脚本是并排的几个文件，互相 import：像运行它们时那样，把那个文件夹放进搜索路径。"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples/train"))
