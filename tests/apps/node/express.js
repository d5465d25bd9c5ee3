// node express.js PORT [PEER]: a server on Express.
const express = require('express')
const http = require('http')
const [port, peer] = process.argv.slice(2)
const app = express()

app.get('/bytes/:size/:id', (request, response) => {
  response.type('text/plain').send('x'.repeat(Number(request.params.size)))
})
app.get('/chunked/:size/:id', (request, response) => {
  const size = Number(request.params.size)
  response.write('x'.repeat(Math.ceil(size / 2)))
  setImmediate(() => response.end('x'.repeat(Math.floor(size / 2))))
})
app.all('/upload/:id', (request, response) => {
  let count = 0
  request.on('data', (piece) => { count += piece.length })
  request.on('end', () => response.status(201).send(`received ${count}\n`))
})
app.delete('/item/:id', (request, response) => response.status(204).end())
app.get('/status/:code/:id', (request, response) => {
  const code = Number(request.params.code)
  if (code === 301) return response.redirect(301, '/bytes/0/1')
  response.status(code)
  return code === 204 ? response.end() : response.send(`status ${code}\n`)
})
app.get('/slow/:time/:id', (request, response) => {
  setTimeout(() => response.send('late\n'), Number(request.params.time))
})
app.get('/call/:id', (request, response) => {
  http.get(`${peer}/bytes/10/${request.params.id}`, (answer) => answer.pipe(response))
})

app.listen(Number(port), '127.0.0.1')
