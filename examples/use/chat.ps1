# 用 PowerShell 发请求；先在另一个窗口起服务。Windows PowerShell 5.1 与 PowerShell 7 都能用。

# --8<-- [start:chat]
$body = @{
  model       = "examples/jiezi"
  messages    = @(@{ role = "user"; content = "什么是 token？" })
  temperature = 0
} | ConvertTo-Json -Depth 5
$response = Invoke-WebRequest -UseBasicParsing -Method Post `
  -Uri http://127.0.0.1:8000/v1/chat/completions `
  -ContentType "application/json; charset=utf-8" `
  -Body ([Text.Encoding]::UTF8.GetBytes($body))
$json = [Text.Encoding]::UTF8.GetString($response.RawContentStream.ToArray())
($json | ConvertFrom-Json).choices[0].message.content
# --8<-- [end:chat]
