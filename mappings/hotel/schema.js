// The reservations of a hotel group, as its bridge finds them, with a few documents of demo data. For mongosh:
//     mongosh mongodb://localhost:27017/hotel mappings/hotel/schema.js
// Only the first statement concerns Rowbridge: its rules compare a document with what it was.

db.createCollection("reservations", { changeStreamPreAndPostImages: { enabled: true } });
db.reservations.createIndex({ propertyId: 1, arrivalDate: 1 });
db.reservations.createIndex({ confirmationNo: 1 });

// bookingStatus: "Not Arrived", "Arrived" or "Departure". A cancelled reservation is removed.
db.reservations.insertMany([
  {
    _id: ObjectId("65f1a0c2e4b0a1b2c3d4e5f6"),
    confirmationNo: "HB4471",
    propertyId: "LON-KX",
    bookingStatus: "Not Arrived",
    roomNumber: "412",
    roomType: "KING",
    arrivalDate: ISODate("2026-12-01"),
    departureDate: ISODate("2026-12-04"),
    ratePerNight: NumberDecimal("189.00"),
    currency: "GBP",
    balance: NumberDecimal("567.00"),
    party: { adults: 2, children: 1 },
    guest: {
      id: "G-7001",
      name: { given: "Ana", family: "Reis" },
      loyalty: { tier: "GOLD", number: "LX993" },
      contact: { email: "ana.reis@example.com", phone: "+351 21 000 0000" },
    },
    updatedAt: ISODate("2026-11-20T09:00:00Z"),
  },
  {
    _id: ObjectId("65f1a0c2e4b0a1b2c3d4e5f8"),
    confirmationNo: "HB4502",
    propertyId: "NYC-TS",
    bookingStatus: "Arrived",
    roomNumber: "1907",
    roomType: "TWIN",
    arrivalDate: ISODate("2026-11-28"),
    departureDate: ISODate("2026-12-02"),
    ratePerNight: NumberDecimal("310.00"),
    currency: "USD",
    balance: NumberDecimal("1240.00"),
    party: { adults: 1 },
    guest: { id: "G-7002", name: { given: "Chidi", family: "Okafor" } },
    updatedAt: ISODate("2026-11-28T16:30:00Z"),
  },
]);
