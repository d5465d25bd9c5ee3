// go-redis: connects to a port, does its list once a line is read.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

func main() {
	ctx := context.Background()
	options := redis.Options{Addr: "127.0.0.1:" + os.Args[1], PoolSize: 1}
	// Otherwise a server that does not know them costs a connection.
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	client := redis.NewClient(&options)
	if err := client.Ping(ctx).Err(); err != nil {
		panic(err)
	}
	fmt.Println("ready")
	lines := bufio.NewReader(os.Stdin)
	lines.ReadString('\n')
	client.Set(ctx, "k", "v", 0)
	client.Get(ctx, "k")
	client.Get(ctx, "none")
	client.HSet(ctx, "h", "field", strings.Repeat("x", 200000))
	client.HGetAll(ctx, "h")
	client.Incr(ctx, "k")
	client.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, "a", 1, 0)
		p.Get(ctx, "a")
		p.Del(ctx, "a")
		return nil
	})
	client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, "a", 1, 0)
		p.IncrBy(ctx, "a", 1)
		return nil
	})
	fmt.Println("done")
	lines.ReadString('\n')
}
