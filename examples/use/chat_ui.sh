#!/usr/bin/env bash
# 启动对话界面；在仓库根目录运行，服务先在另一个终端起好。

# --8<-- [start:ui]
streamlit run examples/use/chat_ui.py --server.address 127.0.0.1 --server.port 8501
# --8<-- [end:ui]
