// gocql: connects, does its list once a line is read.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/apache/cassandra-gocql-driver/v2"
)

func main() {
	cluster := gocql.NewCluster("127.0.0.1")
	cluster.Port, _ = strconv.Atoi(os.Args[1])
	cluster.Keyspace = "shop"
	cluster.NumConns = 1
	cluster.ProtoVersion = 4
	cluster.DisableInitialHostLookup = true
	session, err := cluster.CreateSession()
	if err != nil {
		panic(err)
	}
	fmt.Println("ready")
	lines := bufio.NewReader(os.Stdin)
	lines.ReadString('\n')
	exec := func(statement string, values ...any) {
		if err := session.Query(statement, values...).Exec(); err != nil {
			fmt.Println(err)
		}
	}
	insert := "INSERT INTO shop.items (id, name) VALUES (?, ?)"
	exec("INSERT INTO shop.items (id, name) VALUES (1, 'secret')")
	exec(insert, 2, "two")
	exec(insert, 3, "three")
	batch := session.Batch(gocql.UnloggedBatch)
	batch.Query(insert, 4, "four")
	batch.Query(insert, 5, "five")
	if err := batch.Exec(); err != nil {
		fmt.Println(err)
	}
	if session.Query("SELECT * FROM nothere").Exec() == nil {
		fmt.Println("an error was expected")
	}
	exec(insert, 8, strings.Repeat("x", 300000))
	exec("SELECT name FROM shop.items WHERE id = 8")
	fmt.Println("done")
	lines.ReadString('\n')
}
