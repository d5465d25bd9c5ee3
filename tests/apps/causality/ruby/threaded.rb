# threaded.rb SERVER PORT LEAF REDIS POSTGRES: a front under Puma, whose threads each serve one request at a time.
#
# SERVER is puma, puma-cluster, that in two processes, or puma-single, with one thread. Puma reads a connection's first head where it serves it, and
# those of one that waits for its next in a thread of its own. The shapes are those of ../main.go.
require 'connection_pool'
require 'net/http'
require 'pg'
require 'puma'
require 'puma/configuration'
require 'puma/launcher'
require 'redis'

server = ARGV[0]
PORT, LEAF, REDIS, POSTGRES = ARGV[1, 4].map(&:to_i)
POOL = 4

def call(number, which = 0)
  "call-#{number}-#{which}"
end

def begun
  Net::HTTP.new('127.0.0.1', LEAF).tap { |http| http.keep_alive_timeout = 30 }.start
end

def ask(http, call)
  answer = http.get("/leaf/#{call}")
  raise answer.code if answer.code != '200'
end

small = ConnectionPool.new(size: POOL, timeout: 20) { begun }
stores = ConnectionPool.new(size: POOL, timeout: 20) { Redis.new(port: REDIS) }
databases = ConnectionPool.new(size: POOL, timeout: 20) do
  PG.connect(host: '127.0.0.1', port: POSTGRES, user: 'app', dbname: 'shop', sslmode: 'disable')
end

# A connection for each thread, kept.
direct = lambda do |number, which = 0|
  ask(Thread.current[:kept] ||= begun, call(number, which))
end

jobs = Queue.new
hired = Mutex.new
workers = nil
hire = lambda do
  hired.synchronize do
    workers ||= Array.new(8) do
      Thread.new do
        loop do
          number, done = jobs.pop
          direct.call(number)
          done << true
        end
      end
    end
  end
end

SHAPES = {
  'direct' => direct,
  'sleep' => lambda { |number|
    2.times do |which|
      sleep(rand(0.001..0.02))
      direct.call(number, which)
    end
  },
  'small-pool' => ->(number) { small.with { |http| ask(http, call(number)) } },
  'plain' => ->(number) { Net::HTTP.get(URI("http://127.0.0.1:#{LEAF}/leaf/#{call(number)}")) },
  'fan-out' => lambda { |number|
    Array.new(5) { |which| Thread.new { Net::HTTP.get(URI("http://127.0.0.1:#{LEAF}/leaf/#{call(number, which)}")) } }
         .each(&:join)
  },
  'redis' => lambda { |number|
    2.times { |which| stores.with { |store| store.get(call(number, which)) } }
  },
  'sql' => ->(number) { databases.with { |database| database.exec("SELECT '#{call(number)}'") } },
  'worker' => lambda { |number|
    hire.call
    done = Queue.new
    jobs << [number, done]
    done.pop
  },
  'late' => lambda { |number|
    Thread.new do
      sleep(0.02)
      direct.call(number)
    end
  }
}.freeze

# What is said when all of an answer was sent.
class Said
  def initialize(&closed)
    @closed = closed
  end

  def each
    yield "front\n"
  end

  def close
    @closed.call
  end
end

application = lambda do |env|
  _, shape, number = env['PATH_INFO'].split('/')
  body = ["front\n"]
  case shape
  when 'behind'
    env['rack.after_reply'] << -> { direct.call(number) }
  when 'flushed'
    direct.call(number)
    body = Said.new { direct.call(number, 1) }
  else
    SHAPES.fetch(shape).call(number)
  end
  [200, { 'Content-Length' => '6' }, body]
end

configuration = Puma::Configuration.new do |config|
  config.bind "tcp://127.0.0.1:#{PORT}"
  threads = server == 'puma-single' ? 1 : 32
  config.threads threads, threads
  config.workers 2 if server == 'puma-cluster'
  config.app application
  config.quiet
end
Puma::Launcher.new(configuration).run
