"""检查练习做对了没有。

用法：
    python examples/check.py local/pad_left
    python examples/check.py local/pad_left --solution
"""

import argparse
import os
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main():
    names = [
        f"{path.parents[1].name}/{path.stem.removesuffix('_solution')}"
        for path in sorted(HERE.glob("*/exercises/*_solution.py"))
    ]
    parser = argparse.ArgumentParser(description="检查一道练习。", add_help=False)
    options = parser.add_argument_group("参数")
    options.add_argument("name", choices=names, metavar="练习", help="、".join(names))
    options.add_argument(
        "--solution", action="store_true", help="检查答案，而不是自己写的"
    )
    options.add_argument("-h", "--help", action="help", help="显示这段说明")

    def stop(message, code=2):
        print(message, file=sys.stderr if code == 2 else sys.stdout)
        sys.exit(code)

    parser.error = lambda message: stop(
        f"参数不对：练习的名字是 {'、'.join(names)} 之一；用 --help 看说明。"
    )
    args = parser.parse_args()
    model = os.environ.get("MODEL", "examples/jiezi")
    if not Path(model, "config.json").exists():
        stop(
            f"找不到模型文件夹 {model}：请在仓库根目录运行，或把 MODEL 设成一个模型文件夹。"
        )
    chapter, name = args.name.split("/")
    folder = HERE / chapter / "exercises"
    path = folder / f"{name}{'_solution' if args.solution else ''}.py"
    check = runpy.run_path(str(folder / "check.py"))[f"check_{name}"]
    try:
        check(runpy.run_path(str(path))[name])
    except NotImplementedError:
        stop(f"没有通过：{path.name} 里的 {name} 还没有写。", 1)
    except AssertionError as error:
        stop(f"没有通过：{error}", 1)
    print("通过")


if __name__ == "__main__":
    main()
