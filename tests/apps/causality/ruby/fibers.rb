# fibers.rb async PORT LEAF REDIS POSTGRES: a front on async-http, Falcon's server, with a fiber for each request. The
# shapes are those of ../main.go.
require 'async'
require 'async/http/client'
require 'async/http/endpoint'
require 'async/http/server'
require 'async/semaphore'
require 'async/barrier'

_, port, leaf = ARGV
POOL = 4

Async do
  endpoint = Async::HTTP::Endpoint.parse("http://127.0.0.1:#{leaf}")
  client = Async::HTTP::Client.new(endpoint)
  room = Async::Semaphore.new(POOL)
  direct = lambda do |number, which = 0|
    client.get("/leaf/call-#{number}-#{which}").read
  end
  shapes = {
    'direct' => direct,
    'sleep' => lambda { |number|
      2.times do |which|
        Async::Task.current.sleep(rand(0.001..0.02))
        direct.call(number, which)
      end
    },
    'small-pool' => ->(number) { room.acquire { direct.call(number) } },
    'fan-out' => lambda { |number|
      barrier = Async::Barrier.new
      5.times { |which| barrier.async { direct.call(number, which) } }
      barrier.wait
    },
    'late' => lambda { |number|
      Async(transient: true) do |task|
        task.sleep(0.02)
        direct.call(number)
      end
    }
  }
  application = lambda do |request|
    _, shape, number = request.path.split('/')
    shapes.fetch(shape).call(number)
    Protocol::HTTP::Response[200, {}, ["front\n"]]
  end
  own = Async::HTTP::Endpoint.parse("http://127.0.0.1:#{port}")
  Async::HTTP::Server.for(own, &application).run
end
