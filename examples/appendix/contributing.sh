#!/usr/bin/env bash
# 改了例子或版本之后；在仓库根目录运行。

# --8<-- [start:update]
pytest docs/local/page.md --update-outputs
# --8<-- [end:update]

# --8<-- [start:refresh]
bash .ci/refresh
# --8<-- [end:refresh]
