package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/mongo"
	"go.mongodb.org/mongo-driver/mongo/options"
)

// client connects to a port, does its list once a line is read.
func client(port string) {
	ctx := context.Background()
	address := "mongodb://127.0.0.1:" + port + "/?directConnection=true&maxPoolSize=1"
	client, err := mongo.Connect(ctx, options.Client().ApplyURI(address))
	must(err)
	must(client.Ping(ctx, nil))
	fmt.Println("ready")
	lines := bufio.NewReader(os.Stdin)
	lines.ReadString('\n')
	shop := client.Database("shop")
	orders := shop.Collection("orders")
	type M = bson.M
	_, err = orders.InsertOne(ctx, M{"_id": 0, "note": "secret"})
	must(err)
	many := []any{}
	for n := 1; n < 300; n++ {
		many = append(many, M{"_id": n, "note": strings.Repeat("x", 1000)})
	}
	_, err = orders.InsertMany(ctx, many)
	must(err)
	all(orders.Find(ctx, M{}, options.Find().SetBatchSize(200)))
	must(orders.FindOne(ctx, M{"_id": 7}).Err())
	_, err = orders.UpdateOne(ctx, M{"_id": 7}, M{"$set": M{"note": "secret"}})
	must(err)
	paid := M{"$set": M{"paid": true}}
	models := []mongo.WriteModel{}
	for n := 1; n < 4; n++ {
		models = append(models, mongo.NewUpdateOneModel().SetFilter(M{"_id": n}).SetUpdate(paid))
	}
	_, err = orders.BulkWrite(ctx, models)
	must(err)
	must(orders.FindOneAndUpdate(ctx, M{"_id": 8}, paid).Err())
	all(orders.Aggregate(ctx, bson.A{M{"$match": M{"paid": true}}}))
	_, err = orders.Distinct(ctx, "paid", M{})
	must(err)
	_, err = orders.CountDocuments(ctx, M{})
	must(err)
	models = nil
	for n := 1; n < 3; n++ {
		models = append(models, mongo.NewDeleteOneModel().SetFilter(M{"_id": n}))
	}
	_, err = orders.BulkWrite(ctx, models)
	must(err)
	_, err = orders.DeleteMany(ctx, M{"paid": true})
	must(err)
	_, err = orders.InsertOne(ctx, M{"_id": 0})
	fails(err)
	fails(shop.RunCommand(ctx, bson.D{{Key: "noSuchCommand", Value: 1}}).Err())
	cursor, err := orders.Find(ctx, M{}, options.Find().SetBatchSize(2))
	must(err)
	cursor.Next(ctx)
	must(cursor.Close(ctx))
	_, err = shop.ListCollectionNames(ctx, M{})
	must(err)
	must(orders.Drop(ctx))
	fmt.Println("done")
	lines.ReadString('\n')
}

func all(cursor *mongo.Cursor, err error) {
	must(err)
	var documents []bson.M
	must(cursor.All(context.Background(), &documents))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func fails(err error) {
	if err == nil {
		panic("an error was expected")
	}
}
