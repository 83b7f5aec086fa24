// The offers of a travel marketplace, as its bridge finds them, with a few documents of demo data. For mongosh:
//     mongosh mongodb://localhost:27017/marketplace mappings/marketplace-prices/schema.js
// Only the first statement concerns Rowbridge: its rules compare a document with what it was.

db.createCollection("offers", { changeStreamPreAndPostImages: { enabled: true } });
db.offers.createIndex({ propertyId: 1, checkIn: 1 });
db.offers.createIndex({ "provider.code": 1, updatedAt: 1 });

// status: "LIVE" or "PAUSED". An offer whose stay has begun is removed.
db.offers.insertMany([
  {
    _id: "LIS-ALF-12/2026-12-01/2N/2",
    feedId: "alf-000871",
    region: "EU",
    provider: { code: "direct", name: "Alfama Rooms", contact: { name: "Rita Sousa", email: "rita@alfama.example.com" } },
    propertyId: "LIS-ALF",
    checkIn: ISODate("2026-12-01"),
    nights: 2,
    party: { adults: 2 },
    board: "BB",
    price: NumberDecimal("268.00"),
    currency: "EUR",
    refundable: true,
    roomsLeft: 3,
    status: "LIVE",
    reason: null,
    trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    updatedAt: ISODate("2026-11-20T08:00:00Z"),
  },
]);
